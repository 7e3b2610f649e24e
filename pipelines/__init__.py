"""Composition: which component feeds which; and what hands it to KFP: compile, run here."""
