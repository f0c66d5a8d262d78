"""What submit.py does with a Kubeflow, one file per matter: forms, runs, watching, schedules, publishing."""
