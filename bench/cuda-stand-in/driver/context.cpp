// The device itself, its context, and its errors.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "driver.h"

namespace stand_in {
namespace {

std::atomic<int> sticky{SUCCESS};
std::atomic<bool> initialised{false};
// There is one context a device: its address is what matters.
char contexts[64];
thread_local void *current = nullptr;

bool is_device(int device) { return device >= 0 && uint64_t(device) < settings().devices; }

}  // namespace

Result sticky_error() { return Result(sticky.load()); }
void set_sticky_error(Result error) { sticky = error; }

Result check_health() { return initialised ? sticky_error() : NOT_INITIALIZED; }

Result check() {
    RETURN_ERROR(check_health());
    return current ? SUCCESS : INVALID_CONTEXT;
}

Result check_stream(const void *handle) { return reinterpret_cast<Address>(handle) > 2 ? check_health() : check(); }

}  // namespace stand_in
using namespace stand_in;

extern "C" {

Result cuInit(unsigned) {
    settings();
    initialised = true;
    return SUCCESS;
}
Result cuDriverGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}
Result cuDeviceGetCount(int *count) {
    if (!initialised) return NOT_INITIALIZED;
    *count = int(settings().devices);
    return SUCCESS;
}
Result cuDeviceGet(int *device, int ordinal) {
    if (!initialised) return NOT_INITIALIZED;
    if (!is_device(ordinal)) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}
Result cuDeviceGetName(char *name, int bytes, int device) {
    if (!is_device(device)) return INVALID_DEVICE;
    snprintf(name, size_t(bytes), "stand-in (no GPU)");
    return SUCCESS;
}
Result cuDeviceGetUuid_v2(char *uuid, int device) {
    if (!is_device(device)) return INVALID_DEVICE;
    snprintf(uuid, 16, "stand-in-%d", device & 63);
    return SUCCESS;
}
Result cuDeviceGetUuid(char *uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }
Result cuDeviceGetPCIBusId(char *id, int bytes, int device) {
    if (!is_device(device)) return INVALID_DEVICE;
    snprintf(id, size_t(bytes), "ffff:%02x:00.0", device);
    return SUCCESS;
}

// What is not listed is none or no.
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (!is_device(device)) return INVALID_DEVICE;
    static const std::map<int, int> values{
        {1, 1024},              // threads of a block
        {2, 1024},              // and along x, y, z
        {3, 1024},
        {4, 64},
        {5, 0x7fffffff},        // blocks along x, y, z
        {6, 65535},
        {7, 65535},
        {8, 48 << 10},          // shared memory of a block
        {10, 32},               // threads of a warp
        {16, 1},                // multiprocessors
        {40, 1},                // copy engines
        {41, 1},                // one address space
        {75, 8},                // compute capability
        {76, 0},
        {81, 100 << 10},        // shared memory of a multiprocessor
        {97, 99 << 10},         // shared memory of a block, on request
        {99, 1},                // host memory can be registered
        {115, 1},               // memory pools
    };
    auto found = values.find(attribute);
    *value = found == values.end() ? 0 : found->second;
    return SUCCESS;
}

Result cuDevicePrimaryCtxRetain(void **context, int device) {
    if (!initialised) return NOT_INITIALIZED;
    if (!is_device(device)) return INVALID_DEVICE;
    *context = contexts + device % int(sizeof contexts);
    return sticky_error();
}
Result cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Result cuCtxSetCurrent(void *context) {
    current = context;
    return SUCCESS;
}
Result cuCtxGetCurrent(void **context) {
    *context = current;
    return SUCCESS;
}
Result cuCtxGetDevice(int *device) {
    if (!current) return INVALID_CONTEXT;
    *device = int(static_cast<char *>(current) - contexts);
    return SUCCESS;
}
Result cuCtxSetFlags(unsigned) { return check(); }
Result cuCtxSynchronize() {
    CHECK();
    for (auto &stream : all_streams()) stream->synchronize();
    return sticky_error();
}

Result cuGetErrorName(int error, const char **name) {
    static const std::map<int, const char *> names{
        {SUCCESS, "CUDA_SUCCESS"},
        {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},
        {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
        {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"},
        {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE"},
        {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
        {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"},
        {ECC_UNCORRECTABLE, "CUDA_ERROR_ECC_UNCORRECTABLE"},
        {FILE_NOT_FOUND, "CUDA_ERROR_FILE_NOT_FOUND"},
        {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
        {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},
        {NOT_READY, "CUDA_ERROR_NOT_READY"},
        {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"},
        {HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"},
        {HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED"},
        {NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED"},
    };
    auto found = names.find(error);
    *name = found == names.end() ? "CUDA_ERROR_UNKNOWN" : found->second;
    return SUCCESS;
}
Result cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }
}
