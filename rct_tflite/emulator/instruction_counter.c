/* QEMU plugin: how often each block of instructions ran, when marked functions were entered, how deep the
 * stack went, and the first access to memory that is not the program's.
 *
 * Arguments: out=FILE, mark=ADDRESS (as often as needed), stack=LOW:HIGH, ram=LOW:HIGH, flash=LOW:HIGH,
 * free=LOW:HIGH. A store belongs into the RAM. A load belongs into the RAM or into the flash; from the free
 * part of the RAM, between variables and stack, it is the program's only where the stack has been. Lines of
 * the file, in this order: mark ADDRESS TOTAL           the marked address is about to execute after TOTAL
 * instructions block ADDRESS COUNT N        a block of N instructions ran COUNT times; an address may return
 *   stack ADDRESS                the lowest address in [LOW, HIGH) that was written, or HIGH
 *   wild_store ADDRESS PC        only if there was one; the last line
 *   wild_load ADDRESS PC         instead, if the first was a load
 *
 * The prototypes stand here because distributions ship QEMU without its plugin header. Only calls that have
 * kept their form since API version 1 are used; the version to declare is given when this file is compiled.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef QEMU_PLUGIN_API
    #define QEMU_PLUGIN_API 1
#endif

#define EXPORT         __attribute__((visibility("default")))
#define MAX_MARKS      256
#define DEVICES_ORIGIN 0xE0000000u /* the core's own registers: a store there is not wild */

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_MEM_RW };
typedef void (*block_translated_t)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*executed_t)(unsigned int, void *);
typedef void (*accessed_t)(unsigned int, uint32_t, uint64_t, void *);
typedef void (*finished_t)(qemu_plugin_id_t, void *);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, block_translated_t);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed_t, enum qemu_plugin_cb_flags,
                                          void *);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, executed_t, enum qemu_plugin_cb_flags,
                                            void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, accessed_t, enum qemu_plugin_cb_flags,
                                      enum qemu_plugin_mem_rw, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, finished_t, void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
bool qemu_plugin_mem_is_store(uint32_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = QEMU_PLUGIN_API;

/* A translated block. Lives until the end: QEMU keeps the pointer. */
typedef struct block {
    uint64_t address;
    uint64_t count;
    size_t instructions;
    struct block *next;
} block_t;

/* A marked instruction of a translated block, and how many instructions of the block follow before it ends.
 */
typedef struct {
    uint64_t address;
    size_t remaining;
} mark_t;

typedef struct {
    uint64_t low;
    uint64_t high;
} range_t;

static FILE *out;
static block_t *blocks;
static uint64_t total;
static uint64_t marked[MAX_MARKS];
static int marked_count;
static range_t stack;
static range_t ram;
static range_t flash;
static range_t unused;
static uint64_t stack_lowest;
static const char *wild; /* name of the first wild access */
static uint64_t wild_address;
static uint64_t wild_pc;

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (memory == NULL) {
        fprintf(stderr, "instruction_counter: out of memory\n");
        exit(EXIT_FAILURE);
    }
    return memory;
}

static void on_block(unsigned int cpu, void *data)
{
    (void)cpu;
    block_t *block = data;
    block->count++;
    total += block->instructions;
}

/* Called after on_block() has counted the whole block. */
static void on_mark(unsigned int cpu, void *data)
{
    (void)cpu;
    const mark_t *mark = data;
    fprintf(out, "mark %" PRIu64 " %" PRIu64 "\n", mark->address, total - mark->remaining);
}

static bool holds(const range_t *range, uint64_t address)
{
    return address >= range->low && address < range->high;
}

static void on_access(unsigned int cpu, uint32_t info, uint64_t address, void *data)
{
    (void)cpu;
    const bool is_store = qemu_plugin_mem_is_store(info);
    if (is_store && holds(&stack, address) && address < stack_lowest) {
        stack_lowest = address;
    }
    const bool in_ram =
        holds(&ram, address) && (is_store || address >= stack_lowest || !holds(&unused, address));
    if (in_ram || address >= DEVICES_ORIGIN || (!is_store && holds(&flash, address)) || wild != NULL) {
        return;
    }
    wild = is_store ? "wild_store" : "wild_load";
    wild_address = address;
    wild_pc = (uint64_t)(uintptr_t)data;
}

static void watch_mark(struct qemu_plugin_insn *instruction, uint64_t address, size_t remaining)
{
    for (int i = 0; i < marked_count; i++) {
        if (marked[i] == address) {
            mark_t *mark = allocate(sizeof(*mark));
            mark->address = address;
            mark->remaining = remaining;
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_mark, QEMU_PLUGIN_CB_NO_REGS, mark);
        }
    }
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    block_t *block = allocate(sizeof(*block));
    block->address = qemu_plugin_tb_vaddr(tb);
    block->instructions = qemu_plugin_tb_n_insns(tb);
    block->next = blocks;
    blocks = block;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block, QEMU_PLUGIN_CB_NO_REGS, block);
    for (size_t i = 0; i < block->instructions; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(tb, i);
        const uint64_t address = qemu_plugin_insn_vaddr(instruction);
        watch_mark(instruction, address, block->instructions - i);
        qemu_plugin_register_vcpu_mem_cb(instruction, on_access, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW,
                                         (void *)(uintptr_t)address);
    }
}

static void on_finish(qemu_plugin_id_t id, void *data)
{
    (void)id;
    (void)data;
    for (const block_t *block = blocks; block != NULL; block = block->next) {
        if (block->count > 0) {
            fprintf(out, "block %" PRIu64 " %" PRIu64 " %zu\n", block->address, block->count,
                    block->instructions);
        }
    }
    fprintf(out, "stack %" PRIu64 "\n", stack_lowest);
    if (wild != NULL) {
        fprintf(out, "%s %" PRIu64 " %" PRIu64 "\n", wild, wild_address, wild_pc);
    }
    fclose(out);
}

static bool parse_range(const char *text, range_t *range)
{
    char *end;
    range->low = strtoull(text, &end, 0);
    if (*end != ':') {
        return false;
    }
    range->high = strtoull(end + 1, &end, 0);
    return *end == '\0' && range->low < range->high;
}

static bool parse(const char *argument)
{
    if (strncmp(argument, "out=", 4) == 0) {
        out = fopen(argument + 4, "w");
        return out != NULL;
    }
    if (strncmp(argument, "mark=", 5) == 0 && marked_count < MAX_MARKS) {
        marked[marked_count++] = strtoull(argument + 5, NULL, 0);
        return true;
    }
    if (strncmp(argument, "stack=", 6) == 0) {
        return parse_range(argument + 6, &stack);
    }
    if (strncmp(argument, "flash=", 6) == 0) {
        return parse_range(argument + 6, &flash);
    }
    if (strncmp(argument, "free=", 5) == 0) {
        return parse_range(argument + 5, &unused);
    }
    return strncmp(argument, "ram=", 4) == 0 && parse_range(argument + 4, &ram);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv);

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!parse(argv[i])) {
            fprintf(stderr, "instruction_counter: wrong argument: %s\n", argv[i]);
            return -1;
        }
    }
    if (out == NULL) {
        fprintf(stderr, "instruction_counter: out=FILE is missing\n");
        return -1;
    }
    stack_lowest = stack.high;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_finish, NULL);
    return 0;
}
