"""The colours of all figures."""

# Okabe and Ito's, which the colour-blind can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F")
GREY = COLOURS[-1]
# Those that can be seen on white and on black.
ON_ANY_GROUND = tuple(colour for colour in COLOURS if colour != "#F0E442")
