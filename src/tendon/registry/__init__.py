"""What outlives a run: the champion, the gate that guards it, confirmation, promotion, the record."""
