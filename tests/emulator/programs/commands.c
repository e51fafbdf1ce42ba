/* Firmware of the emulator's tests: the first byte of the request says what to do. */
#include "rct_port.h"

#include <stddef.h>

#define MAX_BYTES   256u
#define STACK_BYTES 512u
#define NO_MEMORY   0xF0000000u

/* Linker script. */
extern const uint8_t rct_flash_origin[], rct_flash_end[], rct_bss_end[];

static uint8_t bytes[MAX_BYTES];
static int32_t table[16] = {1, -1, 2, -2, 3, -3, 5, -5, 7, -7, 11, -11, 13, -13, 17, -17};

/* Integer work with multiplications, divisions and branches that depend on data. */
__attribute__((noinline)) int32_t mix(int32_t value, int32_t round)
{
    for (int32_t i = 0; i < 16; i++) {
        value += table[i] * round;
        if (value % 3 == 0) {
            value = value / 2 + (value >> 3);
        }
        table[i] ^= value & 1;
    }
    return value;
}

/* 64-bit arithmetic, which small cores call the compiler's library for. */
__attribute__((noinline)) int64_t wide(int64_t value, int64_t divisor)
{
    return value / divisor + value * divisor;
}

static int work(void)
{
    int32_t rounds;
    if (!rct_port_read(&rounds, sizeof(rounds))) {
        return 2;
    }
    int64_t result = 1;
    for (int32_t round = 1; round <= rounds; round++) {
        result = wide(result + mix(round * 77, round), round);
    }
    return rct_port_write(&result, sizeof(result)) ? 0 : 3;
}

/* Needs a little more than STACK_BYTES of stack, and writes all of it. */
__attribute__((noinline)) int use_stack(uint8_t fill)
{
    volatile uint8_t deep[STACK_BYTES];
    int sum = 0;
    for (uint32_t i = 0; i < STACK_BYTES; i++) {
        deep[i] = fill;
    }
    for (uint32_t i = 0; i < STACK_BYTES; i++) {
        sum += deep[i];
    }
    return sum;
}

static int reverse(void)
{
    uint32_t size;
    if (!rct_port_read(&size, sizeof(size)) || size > MAX_BYTES || !rct_port_read(bytes, size)) {
        return 2;
    }
    for (uint32_t i = 0; i < size / 2u; i++) {
        const uint8_t byte = bytes[i];
        bytes[i] = bytes[size - 1u - i];
        bytes[size - 1u - i] = byte;
    }
    rct_port_print("reversed\n");
    return rct_port_write(bytes, size) ? 0 : 3;
}

__attribute__((noinline)) int spin(void)
{
    volatile uint32_t turns = 0;
    for (;;) {
        turns++;
    }
}

/* The compiler must not know the address: it would put a trap there instead. */
__attribute__((noinline)) int load_from(uintptr_t address)
{
    return *(volatile uint8_t *)address;
}

__attribute__((noinline)) int store_to(uintptr_t address)
{
    *(volatile uint8_t *)address = 1u;
    return 0;
}

__attribute__((noinline)) int undefined(void)
{
#if defined(__arm__)
    __asm volatile("udf #1");
#elif defined(__riscv)
    __asm volatile("unimp");
#endif
    return 0;
}

int main(void)
{
    uint8_t command;
    int status = 0;
    while (status == 0 && rct_port_read(&command, 1u)) {
        switch (command) {
        case 'r':
            status = reverse();
            break;
        case 'w':
            status = work();
            break;
        case 's':
            status = use_stack(1u) == (int)STACK_BYTES ? 0 : 4;
            break;
        case 'h':
            status = spin();
            break;
        case 'l':
            status = load_from(NO_MEMORY);
            break;
        case 'f':
            status = load_from((uintptr_t)rct_flash_end - 64u);
            break;
        case 'b':
            status = load_from((uintptr_t)rct_bss_end + 64u);
            break;
        case 'z':
            status = store_to((uintptr_t)rct_flash_origin + 0x1000u);
            break;
        case 'u':
            status = undefined();
            break;
        default:
            status = command + 256;
        }
    }
    return status;
}
