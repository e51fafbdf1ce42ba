/* Empty functions that an emulator counts instructions between. They cost a call each. */
#ifndef RCT_MARKS_H
#define RCT_MARKS_H

void rct_mark_predict_begin(void);
void rct_mark_predict_end(void);
void rct_mark_learn_begin(void);
void rct_mark_learn_end(void);

#endif
