"""What runs on a device: standard library, numpy and one runtime, Python 3.9 or later; imports nothing of ours."""
