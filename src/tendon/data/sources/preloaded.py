"""What a child of first_look.py needs, imported once by the process that the children are forks of."""

import tendon.data.check
import tendon.data.convert  # noqa: F401 - the check phase of a conversion runs there
