"""The five preprocessing stages and the driver that runs them."""
