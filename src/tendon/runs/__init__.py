"""What one run of the DAG knows of itself: plan, jobs, outcomes, failures, its conclusion and how it ended."""
