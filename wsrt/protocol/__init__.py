"""The protocol: what stands in a frame and what follows from it. Pure: no event loop, no Django, no clock."""
