"""Every slice of a dataset with its maps: pages to leaf through, filtered, errors first."""
