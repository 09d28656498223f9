"""Screening: rules as they are kept, the reviews that they ask for, and trials on history."""
