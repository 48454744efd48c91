"""What needs calibration data or tools: one module a toolchain."""
