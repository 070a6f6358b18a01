"""A survey tree drawn with `lensing`, in the survey's own layout."""
