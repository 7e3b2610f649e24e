"""What production says: logged answers, labels that come later, what the two make together, and paired replay."""
