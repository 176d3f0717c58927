"""Refinement by a SAM: prompts and arithmetic against transformers' own, what is kept, what is not taken."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Sam2Config, Sam2Model, SamConfig, SamModel, SamProcessor
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from langhops_cli.errors import UserError
from langhops_cli.prediction import refine
from langhops_cli.prediction.masks import to_original
from langhops_cli.prediction.refine import Refiner, prompts_of
from langhops_cli.prediction.results import Detection, Prediction

SIDE = 128
DECODER = {"hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "iou_head_hidden_dim": 8}
PROMPTS = {"hidden_size": 16, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}


def small_sam():
    torch.manual_seed(0)
    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": SIDE, "mlp_dim": 16, "num_pos_feats": 8, "window_size": 4, "global_attn_indexes": [0]}
    vision |= {"initializer_range": 0.5}
    return SamModel(SamConfig(vision_config=vision, prompt_encoder_config=PROMPTS, mask_decoder_config=DECODER)).eval()


def small_sam2():
    torch.manual_seed(0)
    backbone = {"model_type": "sam2_hiera_det_model", "image_size": [SIDE, SIDE], "hidden_size": 8}
    backbone |= {"blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64]}
    backbone |= {"num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 4, 4, 4]}
    backbone |= {"global_attention_blocks": [3], "window_positional_embedding_background_size": [2, 2]}
    vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 16}
    vision |= {"backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]]}
    config = Sam2Config(vision_config=vision, prompt_encoder_config=PROMPTS, mask_decoder_config=DECODER)
    return Sam2Model(config).eval()


@pytest.fixture(scope="module", params=[small_sam, small_sam2])
def sam(request):
    return request.param()


class Eye:
    """A SAM that knows: to a prompt it answers all that has the colour under the point, within the box or not.

    It offers three masks for a prompt: everything, the thing, nothing.
    """

    def __init__(self, kind="sam", *, answer=None):
        self.config = SimpleNamespace(model_type=kind, prompt_encoder_config=SimpleNamespace(image_size=SIDE))
        self.answer = answer
        self.pictures = 0
        self.prompts = []

    def eval(self):
        return self

    def to(self, device):
        return self

    def get_image_embeddings(self, pixels):
        self.pictures += 1
        return pixels if self.config.model_type == "sam" else [pixels]

    def __call__(self, *, image_embeddings, input_points, input_boxes):
        pixels = image_embeddings if torch.is_tensor(image_embeddings) else image_embeddings[0]
        masks = []
        for point, box in zip(input_points[0, :, 0], input_boxes[0], strict=True):
            self.prompts.append((point.tolist(), box.tolist()))
            x, y = point.round().int().tolist()
            same = ((pixels[0] - pixels[0, :, y, x, None, None]).abs() < 0.05).all(0)
            thing = torch.nn.functional.avg_pool2d(same[None].float(), 4)[0] - 0.5
            thing = thing if self.answer is None else torch.full_like(thing, self.answer)
            masks.append(torch.stack([torch.ones_like(thing), thing, -torch.ones_like(thing)]))
        return SimpleNamespace(pred_masks=torch.stack(masks)[None])


def scene(size=(300, 400)):
    """A picture of discs in colours of their own, their masks, and what a coarse model makes of them."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    pixels = np.full((*size, 3), 40, dtype=np.uint8)
    fine, rough = [], []
    discs = np.array([(60, 70, 45), (180, 260, 100), (250, 60, 30), (40, 330, 35)]) * size[0] / 300
    for number, (y, x, radius) in enumerate(discs):
        mask = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        pixels[mask] = (60 * number + 60, 250 - 50 * number, 120)
        fine.append(mask)
        blocks = Image.fromarray(mask).resize((24, 18), Image.Resampling.NEAREST)
        rough.append(np.asarray(blocks.resize(size[::-1], Image.Resampling.NEAREST)))
    return Image.fromarray(pixels), fine, rough


def prediction_of(masks):
    found = [
        Detection.from_mask(("car",), 0.9, masks[0], track=7),
        Detection.from_mask(("car", "door"), 0.8, masks[1], parent=0),
        Detection.from_mask(("car", "door", "handle"), 0.7, masks[2], parent=1, track=3),
        Detection.from_mask(("dog",), 0.6, masks[3]),
    ]
    return Prediction("clip.mp4#5", masks[0].shape, tuple(found), frame=5, seconds=0.2)


def iou(one, other):
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


@pytest.mark.parametrize("kind", ["sam", "sam2"])
@pytest.mark.parametrize("tile", [None, 128])
def test_masks_become_finer_and_nothing_else_changes(kind, tile):
    picture, fine, rough = scene()
    before = prediction_of(rough)
    after = Refiner(model=Eye(kind)).refine(picture, before, tile=tile)
    assert (after.picture, after.frame, after.seconds, len(after)) == ("clip.mp4#5", 5, 0.2, 4)
    for old, new, truth in zip(before, after, fine, strict=True):
        assert (new.path, new.score, new.parent, new.track) == (old.path, old.score, old.parent, old.track)
        assert iou(new.mask, truth) > max(0.75, iou(old.mask, truth))
        assert new.box == Detection.from_mask(("a",), 1, new.mask).box


def test_windows_make_finer_masks_of_what_fits_into_one():
    picture, fine, rough = scene((600, 800))
    eye = Eye()
    seen_whole = Refiner(model=Eye()).refine(picture, prediction_of(rough))
    in_windows = Refiner(model=eye).refine(picture, prediction_of(rough), tile=320)
    errors = [
        [1 - iou(found.mask, truth) for found, truth in zip(prediction, fine, strict=True)]
        for prediction in (seen_whole, in_windows)
    ]
    assert in_windows[1] == seen_whole[1]  # larger than any window
    assert errors[1][2] < errors[0][2] / 2
    assert eye.pictures <= 4  # no window without an instance is looked at


@pytest.mark.parametrize("answer", [1.0, -1.0])
def test_what_is_empty_or_another_thing_is_not_taken(answer):
    picture, _, rough = scene()
    before = prediction_of(rough)
    assert Refiner(model=Eye(answer=answer)).refine(picture, before) == before


def test_nothing_found_needs_no_model():
    eye = Eye()
    nothing = Prediction("a", (30, 40))
    assert Refiner(model=eye).refine(Image.new("RGB", (40, 30)), nothing, tile=64) == nothing
    assert eye.pictures == 0


def test_more_instances_than_prompts_at_once():
    picture, fine, rough = scene()
    found = [Detection.from_mask(("car",), 0.5, rough[n % 4]) for n in range(refine.PROMPTS * 2 + 3)]
    after = Refiner(model=Eye()).refine(picture, Prediction("a", rough[0].shape, tuple(found)))
    assert [iou(item.mask, fine[n % 4]) > 0.75 for n, item in enumerate(after)] == [True] * len(found)


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(30, 40\)"):
        Refiner(model=Eye()).refine(Image.new("RGB", (40, 30)), Prediction("a", (40, 30)))


@pytest.mark.parametrize("size", [(96, 128), (200, 300), (301, 77), (1, 50)])
def test_pixels_are_those_of_transformers_own_processor(size):
    array = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    picture = Image.fromarray(array)
    own, processed = Refiner(model=small_sam()).to_pixels(picture), processor()(picture, return_tensors="pt")
    torch.testing.assert_close(own[0], processed["pixel_values"].float(), atol=1e-5, rtol=0)
    assert own[1] == tuple(processed["reshaped_input_sizes"][0].tolist())


def processor():
    return SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})


@pytest.mark.parametrize(("size", "original"), [((96, 128), (96, 128)), ((85, 128), (200, 300)), ((128, 31), (60, 15))])
def test_masks_are_brought_back_as_transformers_own_processor_does(size, original):
    logits = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    (wanted,) = processor().post_process_masks([logits], [original], [size])
    for channel in range(3):
        assert np.array_equal(to_original(logits[0, channel], size, original), wanted[0, channel].numpy())


def test_a_squeezed_mask_is_brought_back_as_sam_2_does_up_to_its_edge():
    smooth = torch.nn.functional.interpolate(torch.randn(1, 1, 6, 6), (32, 32), mode="bicubic")
    wanted = torch.nn.functional.interpolate(smooth, (190, 300), mode="bilinear")[0, 0] > 0
    assert iou(to_original(smooth[0, 0], (SIDE, SIDE), (190, 300)), wanted.numpy()) > 0.98


def test_the_same_masks_as_the_models_own_pipeline(monkeypatch):
    monkeypatch.setattr(refine, "LEAST_IOU", 1e-9)  # random weights agree with nothing
    picture, _, rough = scene((96, 128))  # at the model's own scale a pixel is a pixel
    before, model = prediction_of(rough), small_sam()
    prompts = prompts_of([item.mask for item in before])
    asked = SamProcessor(processor())(
        picture,
        input_points=[prompts[:, :1].tolist()],
        input_boxes=[prompts[:, 1:].reshape(-1, 4).tolist()],
        return_tensors="pt",
    )
    with torch.no_grad():
        answer = model(
            pixel_values=asked["pixel_values"].float(),
            input_points=asked["input_points"].float(),
            input_boxes=asked["input_boxes"].float(),
        )
    (wanted,) = processor().post_process_masks(
        answer.pred_masks, asked["original_sizes"], asked["reshaped_input_sizes"]
    )
    after = Refiner(model=model).refine(picture, before)
    changed = 0
    for old, new, offered in zip(before, after, wanted.numpy(), strict=True):
        if new == old:
            continue
        changed += 1
        # Which of noisy masks is most like the old one is told on the model's cells, so not to the last pixel.
        assert any(np.array_equal(new.mask, mask) for mask in offered)
        assert iou(new.mask, old.mask) > max(iou(mask, old.mask) for mask in offered) - 0.05
    assert changed > 1


def test_wiring_of_a_random_model(sam, monkeypatch):
    monkeypatch.setattr(refine, "LEAST_IOU", 1e-9)
    picture, _, rough = scene((150, 200))
    before = prediction_of(rough)
    full = Refiner(model=sam).refine(picture, before)
    half = Refiner(model=sam, dtype=torch.bfloat16).refine(picture, before, tile=128)
    for after in (full, half):
        assert [item.parent for item in after] == [None, 0, 1, None]
        assert any(new.rle != old.rle for new, old in zip(after, before, strict=True))
    assert all(weight.dtype == torch.float32 for weight in sam.parameters())


def test_a_saved_model_is_read_again(sam, tmp_path, monkeypatch):
    monkeypatch.setattr(refine, "LEAST_IOU", 1e-9)
    sam.save_pretrained(tmp_path / "sam")
    picture, _, rough = scene((96, 128))
    loaded = Refiner.from_pretrained(tmp_path / "sam")
    assert loaded.dtype == torch.float32
    assert loaded.refine(picture, prediction_of(rough)) == Refiner(model=sam).refine(picture, prediction_of(rough))


def test_a_sam_2_of_videos_is_read_as_one_of_pictures(tmp_path):
    small_sam2().save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"model_type": "sam2",', '"model_type": "sam2_video",'))
    assert not Refiner.from_pretrained(tmp_path).padded


def test_what_is_no_sam_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no such folder") as missing:
        Refiner.from_pretrained(tmp_path / "nothing")
    assert missing.value.code == 4
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UserError, match="is a bert model") as other:
        Refiner.from_pretrained(tmp_path)
    assert other.value.code == 3
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="is no SAM") as broken:
        Refiner.from_pretrained(tmp_path)
    assert broken.value.code == 3 and "\n" not in str(broken.value)


def test_weights_that_are_cut_off_or_missing_are_told(tmp_path):
    from safetensors.torch import load_file, save_file

    small_sam().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    save_file({name: value for name, value in weights.items() if "iou_token" not in name}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights, such as mask_decoder.iou_token"):
        Refiner.from_pretrained(tmp_path)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="is no SAM") as cut:
        Refiner.from_pretrained(tmp_path)
    assert cut.value.code == 3


@pytest.mark.parametrize("seed", range(10))
def test_prompts_are_the_box_and_the_point_farthest_from_the_outside(seed):
    random = np.random.default_rng(seed)
    mask = np.asarray(Image.fromarray(random.random((4, 5)) < 0.5).resize((45, 36), Image.Resampling.NEAREST)).copy()
    mask[0, 0] = True
    (centre, first, last) = prompts_of([mask])[0].astype(int)
    rows, columns = np.nonzero(mask)
    assert first.tolist() == [columns.min(), rows.min()] and last.tolist() == [columns.max(), rows.max()]
    outside = np.argwhere(~np.pad(mask, 1)) - 1
    depth = {
        (x, y): np.square(outside - (y, x)).sum(1).min() for y, x in zip(rows.tolist(), columns.tolist(), strict=True)
    }
    assert depth[tuple(centre.tolist())] == max(depth.values())


def test_the_point_of_a_large_mask_lies_in_it_however_thin_it_is():
    ring, line = np.zeros((3000, 3000), dtype=bool), np.zeros((3000, 3000), dtype=bool)
    rows, columns = np.ogrid[:3000, :3000]
    distance = (rows - 1500) ** 2 + (columns - 1500) ** 2
    ring |= (distance < 1400**2) & (distance > 1200**2)
    line[7:2900, 1000] = line[2800, 100:2000] = True
    line[7, 101:2000] = True
    for mask in (ring, line):
        x, y = prompts_of([mask])[0, 0].astype(int)
        assert mask[y, x]
    x, y = prompts_of([ring])[0, 0]
    assert abs(np.hypot(x - 1500, y - 1500) - 1300) < 8
