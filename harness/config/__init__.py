"""What users write down: policies, number formats, and the description of their own service."""
