"""The online phase: episodes that the policy plays while it learns, the buffer that keeps them, and batches of both kinds of rows."""
