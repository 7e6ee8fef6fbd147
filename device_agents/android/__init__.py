"""Android devices: how they are reached, what they say of themselves, and the programs that time models there."""
