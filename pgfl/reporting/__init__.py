"""Tables, figures and pages. Here lies what those of the paper and all others share."""
