"""Which episodes help: ranked by findings, held-out loss and influence; the ordinary run decides whether leaving the worst out pays."""
