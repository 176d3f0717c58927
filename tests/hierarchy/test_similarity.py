import numpy as np

from langhops_cli.hierarchy.similarity import NameEmbeddings, load_embed
from tests.hierarchy.knowledge import letters


def test_each_name_is_embedded_once():
    asked = []

    def embed(texts):
        asked.append(list(texts))
        return letters(texts)

    names = NameEmbeddings(embed)
    names(["dog", "cat", "dog"])
    assert np.allclose(names.cosines(["dog", "horse"], ["dog", "cat"])[0, 0], 1)
    assert asked == [["dog", "cat"], ["horse"]]
    assert names.cosines([], ["dog"]).shape == (0, 1)


def test_the_text_encoder_finds_words_of_one_thing_similar():
    embed = load_embed(chunk=2)
    names = ["car", "automobile", "a banana with a very long name"]
    together = embed(names)
    assert together.shape == (3, 384)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    cosines = together @ together.T
    assert cosines[0, 1] > 0.75 > 0.4 > cosines[0, 2]
    # padding is not read: alone and in a chunk a name has one vector
    assert np.allclose(embed(["car"])[0], together[0], atol=1e-5)
