from __future__ import annotations

from dataclasses import replace

import pytest
from scripted_agent import ScriptedAgent, keys_of_blocks

from profiler.caution import Caution
from profiler.files import sha256_of
from profiler.subnet import ExportedModel, SubnetRecord
from profiler.verifying import NothingToVerifyError, verify_subnet
from supernets.spaces import space


def test_a_device_that_takes_several_images_at_a_time_verifies_the_model_that_does(tmp_path):
    tiny = space("ofa-mobilenetv3-tiny")
    one = ExportedModel("onnx", "subnet.onnx", "0" * 64, 5, 8, 1e-7, 1.0)
    agent = ScriptedAgent(batch=4)

    def verified(*models):
        record = SubnetRecord(tiny.smallest(), 1, 1, models=models)
        return verify_subnet(record, tmp_path, agent, tmp_path / "v.lut", None, None, lambda done, total, note: None).record

    with pytest.raises(NothingToVerifyError, match=r"no onnx model of precision float32 of batch 4 \(it has: onnx float32\)"):
        verified(one)
    assert agent.workers == [] and list(tmp_path.iterdir()) == []
    content = keys_of_blocks(tiny.blocks(tiny.smallest()))
    (tmp_path / "subnet.batch4.onnx").write_bytes(content)
    four = replace(one, file="subnet.batch4.onnx", sha256=sha256_of(tmp_path / "subnet.batch4.onnx"), batch=4)
    assert verified(one, four).verifications[0].condition["batch"] == 4


def test_a_verification_tells_what_to_be_wary_of_in_its_own_session_alone(tmp_path):
    tiny = space("ofa-mobilenetv3-tiny")
    (tmp_path / "subnet.onnx").write_bytes(keys_of_blocks(tiny.blocks(tiny.smallest())))
    model = ExportedModel("onnx", "subnet.onnx", sha256_of(tmp_path / "subnet.onnx"), 5, 8, 1e-7, 1.0)
    record = SubnetRecord(tiny.smallest(), 1, 1, models=(model,))

    def verified(agent, session):
        return verify_subnet(record, tmp_path, agent, tmp_path / "v.lut", None, None, lambda done, total, note: None, session)

    troubled = verified(ScriptedAgent(slow_share=0.9), "s")
    found = {check.caution: check.text for check in troubled.warnings}
    assert found[Caution.UNCONVERGED].startswith("1 of 1 whole networks are not known to 2%")
    assert found[Caution.UNCONVERGED].endswith("; let the device rest, stop other work on it, and measure anew")
    assert troubled.record.verifications[-1].measured_latency_ms > 0
    calm = verified(ScriptedAgent(), "second")
    assert Caution.UNCONVERGED not in {check.caution for check in calm.warnings}
