"""``make bench`` of the loader, beside the peers that install."""
