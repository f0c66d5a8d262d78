"""Between a dataset and a network: frozen transform pairs, saved as JSON + safetensors, applied on the device.

``processing.py`` joins them; ``normalize.py images.py rotations.py actions.py text.py`` hold the pairs. A policy's package
says which; a dataset's statistics fill them. Importing a pair needs no torch, so ``config.py`` may list them.
"""
