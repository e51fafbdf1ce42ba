/* Weights have up to 8 bits. Where an export holds wider ones, another file of this name takes its place. */
#ifndef RCT_WIDE_H
#define RCT_WIDE_H

#define RCT_WIDE_WEIGHTS 0

#endif
