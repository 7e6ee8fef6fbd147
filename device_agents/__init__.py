"""How a device is reached and timed: agents take model files and visit plans, and return raw samples in nanoseconds.

Transports by name; further ones come through the entry-point group `elastic_latency.transports`: name → DeviceAgent class.
"""

__all__ = ["ENTRY_POINT_GROUP", "TRANSPORTS"]

ENTRY_POINT_GROUP = "elastic_latency.transports"
TRANSPORTS = {
    "local": "device_agents.local:LocalAgent",
    "ssh": "device_agents.ssh:SshAgent",
    "adb": "device_agents.adb:AdbAgent",
    "cuda": "device_agents.cuda:CudaAgent",
    "simulated": "device_agents.simulated:SimulatedAgent",
}
