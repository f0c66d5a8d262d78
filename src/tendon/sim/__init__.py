"""The guest side: what runs inside a simulator's own interpreter.

Imports the standard library, numpy and that simulator only, and itself only by relative imports: the host starts a
guest by loading this folder by path under the name ``tendon_sim`` (evaluate/guest.py), so the guest never sees its
packages.
"""

NUMERICS = 1  # of the protocol; each adapter states its own
