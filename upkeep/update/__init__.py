"""The steps of an update: each reads its inputs, calls the engines, writes its outputs."""
