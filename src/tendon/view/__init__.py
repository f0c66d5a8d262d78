"""Pictures of data and runs: ``tendon view`` serves one local page, or writes it as a file. Nothing leaves the machine."""
