"""Protocols that compare detectors, and the detectors to compare with."""
