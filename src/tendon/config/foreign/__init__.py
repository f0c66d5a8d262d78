"""Configurations of other systems, read as ours: what maps is mapped, what does not is refused with the reason."""
