/*
 * Aids of learning on the device: counting what is right, stopping early, the best weights, a buffer to
 * replay.
 *
 *   rct_model_begin_evaluation();
 *   for each held sample: copy it to rct_model_input(); rct_model_evaluate(label);
 *   if (rct_model_judge(patience) == RCT_VERDICT_STOP) { rct_model_roll_back(); }
 *
 *   for each new sample: copy it to rct_model_input(); rct_model_remember(label);
 *                        rct_model_predict(); rct_model_learn(label); rct_model_replay();
 *
 * The export says which of them there are; RAM of the others is not taken.
 */
#ifndef RCT_AIDS_H
#define RCT_AIDS_H

#include "rct_model.h"
#include "rct_options.h"
#if RCT_HAS_WIDTHS
    #include "rct_adapt.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    RCT_VERDICT_BETTER = 0, /* than any evaluation before: these weights are kept as the best */
    RCT_VERDICT_WAIT = 1,
    RCT_VERDICT_STOP = 2, /* until the next reset */
} rct_verdict_t;

/* In RAM: the evaluation that runs, and the best one. */
typedef struct {
    uint32_t count;  /* samples evaluated */
    uint32_t score;  /* of them right or, where the loss takes targets, the sum of all differences */
    uint32_t best;   /* score */
    uint16_t waited; /* evaluations since the best one */
    bool judged;     /* whether there is a best one */
    bool stopped;
} rct_progress_t;

/* In RAM: what the buffer knows of a class. */
typedef struct {
    uint16_t seen;   /* samples offered, at most 65535 */
    uint16_t stored; /* slots */
    bool full;       /* has had as many slots as any other while all were taken */
} rct_replay_class_t;

/* In RAM. */
typedef struct {
    uint32_t random;
    uint32_t filled; /* slots in use */
} rct_replay_state_t;

/* Labelled samples in the format of the network's input, as many of each class as there is room. */
typedef struct {
    uint32_t slots;
    int8_t *samples;  /* (slots, input_bytes) */
    uint16_t *labels; /* (slots) */
    rct_replay_class_t *classes;
    rct_replay_state_t *state;
} rct_replay_t;

/* Of the generated model.c. NULL is what the export does not have. */
typedef struct {
    rct_progress_t *progress;
    uint16_t *confusion; /* (classes, classes): true class, largest output; counts stop at 65535 */
    uint8_t *best;       /* (parameter_bytes) */
    const rct_replay_t *replay;
    void *held; /* sums and momentum, which belong to weights that a rollback drops */
    uint32_t held_bytes;
#if RCT_HAS_WIDTHS
    const rct_adaptation_t *adaptation;
#endif
} rct_aids_t;

#define RCT_REPLAY_SEED 0x9E3779B9u /* another stream than that of the updates */

extern const rct_aids_t rct_model_aids;

/* Forgets everything. rct_model_reset() calls it. */
void rct_aids_reset(const rct_aids_t *aids);

/* Clears the counts. */
void rct_model_begin_evaluation(void);

/* Predicts the sample in rct_model_input() and counts whether it is right: into `*right`, 0 or 1.
 * RCT_ERR_ARGUMENT if the label is no class, an id no row of the table, or nothing counts classes. */
rct_status_t rct_model_evaluate(uint16_t label, uint8_t *right);

/* The same for a loss with targets: the sum of the differences between output and rct_model_target(). */
rct_status_t rct_model_evaluate_target(uint32_t *distance);

/* Ends an evaluation: whether it is the best one so far, and whether `patience` of them in a row were not.
 * Evaluations are comparable where they saw the same samples. */
rct_verdict_t rct_model_judge(uint16_t patience);

/* Back to the weights of the best evaluation; RCT_ERR_ARGUMENT if there is none, or they were not kept. */
rct_status_t rct_model_roll_back(void);

/* Offers the sample in rct_model_input(), before it is predicted, to the buffer. RCT_ERR_ARGUMENT if the
 * label is no class, an id no row of the table, or there is no buffer. */
rct_status_t rct_model_remember(uint16_t label);

/* One training step on a sample of the buffer, drawn at random; its slot into `*slot`. RCT_ERR_ARGUMENT if
 * the buffer is empty. */
rct_status_t rct_model_replay(uint16_t *slot);

#ifdef __cplusplus
}
#endif

#endif
