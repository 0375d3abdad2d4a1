"""What depends on the device that a fit runs on."""
