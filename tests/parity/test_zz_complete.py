"""Runs last: nothing of the set was passed over."""

import pytest

STAGES = {"test_end_to_end.py", "test_inference.py", "test_losses.py"}


def test_every_stored_tensor_was_compared(request, golden):
    collected = {item.path.name for item in request.session.items if item.path.parent == request.path.parent}
    if not collected >= STAGES:
        pytest.skip("only some of the parity tests were asked for")
    assert sorted(golden.tensors.keys() - golden.compared) == []
