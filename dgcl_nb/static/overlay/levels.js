// How a value travels: as a whole number of 16 bits. The values are JSON: Python reads them from here.

// The level of a value that is not known.
export const UNKNOWN_LEVEL = 65535;

// The level of the highest value of a range.
export const TOP_LEVEL = 65534;
