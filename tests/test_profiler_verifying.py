from __future__ import annotations

import pytest
from scripted_agent import ScriptedAgent

from profiler.subnet import ExportedModel, SubnetRecord
from profiler.verifying import ManyImagesError, verify_subnet
from supernets.spaces import space


def test_a_device_that_measures_several_images_at_a_time_is_refused_before_anything_is_measured(tmp_path):
    tiny = space("ofa-mobilenetv3-tiny")
    record = SubnetRecord(tiny.smallest(), 1, 1, models=(ExportedModel("onnx", "subnet.onnx", "0" * 64, 5, 8, 1e-7, 1.0),))
    agent = ScriptedAgent(batch=4)
    with pytest.raises(ManyImagesError, match="declared with batch 4; verify with batch = 1"):
        verify_subnet(record, tmp_path, agent, tmp_path / "v.lut", None, None, lambda done, total, note: None)
    assert agent.workers == [] and list(tmp_path.iterdir()) == []
