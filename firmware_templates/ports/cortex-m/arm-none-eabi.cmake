# CMake toolchain file: GNU Arm Embedded, one of the cores below (-DRCT_CORE=...).
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES RCT_CORE)

set(RCT_CORE cortex-m7 CACHE STRING "Core to compile for")
set(RCT_FPU_cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16)
set(RCT_FPU_cortex-m7 -mfloat-abi=hard -mfpu=fpv5-d16)
set(RCT_FPU_cortex-m33 -mfloat-abi=hard -mfpu=fpv5-sp-d16)
set(RCT_FPU_cortex-m55 -mfloat-abi=hard)
add_compile_options(-mcpu=${RCT_CORE} -mthumb ${RCT_FPU_${RCT_CORE}} -ffunction-sections -fdata-sections)
add_link_options(-mcpu=${RCT_CORE} -mthumb ${RCT_FPU_${RCT_CORE}} -nostartfiles --specs=nano.specs -Wl,--gc-sections)
