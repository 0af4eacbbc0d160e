"""Model evaluation: metrics, intervals, calibration and selection rules on plain arrays."""
