"""Published image sets: BSDS500 to train on, CBSD68 to be measured on and never trained on."""
