"""What tests of training, bundles and scoring share."""
