/*
 * What the generated model.c provides: one network, its state in static memory.
 *
 *   rct_model_reset();                                      once, or to forget what was learnt
 *   memcpy(rct_model_input(), sample, info.input_bytes);    int8, quantised as the .tflite says, or uint16
 * ids logits = rct_model_predict(); rct_model_learn(label);                                 after a
 * prediction: one training step on it
 */
#ifndef RCT_MODEL_H
#define RCT_MODEL_H

#include "rct.h"

/* Sizes in bytes. */
typedef struct {
    uint32_t input_bytes;
    uint32_t classes;
    uint32_t arena_bytes;
    uint32_t parameter_bytes; /* what learns: packed weights and biases */
    uint32_t state_bytes;     /* gains, random state, exponents */
    uint32_t trace_bytes;     /* outputs of all ops together */
} rct_model_info_t;

extern const rct_model_info_t rct_model_info;

/* Sets parameters, gains and random numbers to those of the export. */
void rct_model_reset(void);

/* Where the next sample goes: (input_bytes). Valid until rct_model_predict(). Where the network picks rows of
 * a table, these are numbers of type uint16_t, aligned to them: see rct_gather.h. */
int8_t *rct_model_input(void);

/* Runs the network; returns (classes) logits, valid until the next call. NULL where an id is no row of the
 * table, and nothing was computed; never NULL where the input is int8. */
const int8_t *rct_model_predict(void);

/* Learns from the sample that was predicted last. RCT_ERR_ARGUMENT if the label is not a class, or an id no
 * row of the table, or if the loss takes targets, or nothing learns. */
rct_status_t rct_model_learn(uint16_t label);

/* Where the target of the next sample goes, before it is predicted: (classes) int8 in the output's format,
 * for sigmoid cross-entropy -128 for a probability of 0 and 127 for 1. NULL where the loss takes a class. */
int8_t *rct_model_target(void);

/* Learns from the sample that was predicted last, towards its target. RCT_ERR_ARGUMENT if the loss takes a
 * class, or nothing learns. */
rct_status_t rct_model_learn_target(void);

/* What has been learnt: (parameter_bytes), NULL where nothing learns. */
uint8_t *rct_model_parameters(void);

/* Whether the parameters can be worked with: to be asked after they were written from outside. Sums could
 * pass 32 bits with biases that no training reaches, and, where bit-widths follow the training, wrong ones
 * would lead out of the memory; reset the model then. */
bool rct_model_parameters_are_sound(void);

/* How finely a layer that learns is resolved, where the export lets bit-widths follow the training. */
typedef struct {
    uint32_t
        gavg; /* mean step of the last interval, rate * |gradient| / scale, in 2**-16; 0 before the first */
    uint8_t bits;
    int8_t octave; /* log2(scale / exported scale) */
    uint8_t unused[2];
} rct_model_width_t;

/* RCT_ERR_ARGUMENT if there is no such layer; they count from 0, in the order of the network. */
rct_status_t rct_model_width(uint16_t layer, rct_model_width_t *width);

/* Runs the golden vectors; RCT_ERR_SELF_TEST if a byte of an output differs from TFLite-Micro's. */
rct_status_t rct_model_self_test(void);

/* For the generated code: the runtime needs no C library. */
void rct_copy(void *to, const void *from, uint32_t size);
void rct_copy_rows(uint8_t *rows, const rct_weights_t *weights); /* those that learn, as exported */
bool rct_biases_are_within(const int32_t *bias, int32_t count, int32_t limit);
bool rct_equal(const void *a, const void *b, uint32_t size);

#ifdef RCT_TRACE
/* Defined by whoever builds with RCT_TRACE: called with the output of every op. */
void rct_trace(const int8_t *output, uint32_t size);
#else
    #define rct_trace(output, size) ((void)0)
#endif

#endif
