/* The gain from the loss to an input error, as a logarithm in units of 1/256 octave. */
#include "error_scale.h"
#include "integers.h"

#define OCTAVE    256
#define DECAY     4 /* 1 % */
#define PEAK_BITS 6 /* the largest error comes to lie in 64 to 127 */

int32_t rct_shift_to_8_bits(rct_gain_t gain, int32_t total_shift)
{
    if (gain == RCT_GAIN_UNSET) {
        return 0;
    }
    return rct_clamp(((gain - OCTAVE * total_shift) >> 8) - PEAK_BITS, 0, 31);
}

rct_gain_t rct_gain_seen(int32_t peak, int32_t total_shift)
{
    const int32_t octave = rct_bit_length((uint32_t)peak) - 1;
    const int32_t mantissa = octave > 8 ? peak >> (octave - 8) : peak << (8 - octave);
    return OCTAVE * (octave + total_shift) + mantissa - OCTAVE;
}

rct_gain_t rct_gain_next(rct_gain_t gain, rct_gain_t seen)
{
    return rct_max(gain - DECAY, seen);
}
