// Modules and their kernels. A module is a shared object made by the stand-in nvcc; the text that a
// real driver would take for PTX names it.
#include <dlfcn.h>

#include <cstring>

#include "driver.h"

namespace stand_in {
namespace {

std::string object_named_in(const char *text) {
    const char *before = "// stand-in: ";
    const char *at = strstr(text, before);
    if (!at) return "";
    at += strlen(before);
    return std::string(at, strcspn(at, "\n"));
}

// What the kernel may touch: all of the allocation from the pointer on, since how far it goes is not
// known. Writes are what is not const.
std::vector<Touch> touches_of(const StandInKernel &kernel, const std::vector<void *> &parameters) {
    std::vector<Touch> touches;
    for (unsigned i = 0; i < kernel.count; i++) {
        Address address;
        if (!kernel.parameters[i].pointer) continue;
        memcpy(&address, parameters[i], sizeof address);
        if (address == 0) continue;
        Piece piece = must_be_allocated(kernel.name, address, 0);
        touches.push_back({address, piece.to, kernel.parameters[i].written});
    }
    return touches;
}

}  // namespace

}  // namespace stand_in
using namespace stand_in;

extern "C" {

Result cuModuleLoadData(void **module, const void *image) {
    CHECK();
    std::string object = object_named_in(static_cast<const char *>(image));
    if (object.empty()) return INVALID_IMAGE;
    void *opened = dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!opened) {
        fprintf(stderr, "cuda stand-in: %s\n", dlerror());
        return FILE_NOT_FOUND;
    }
    *module = opened;
    return SUCCESS;
}
// Kernels may still be under way: modules stay.
Result cuModuleUnload(void *) { return SUCCESS; }

Result cuModuleGetFunction(void **function, void *module, const char *name) {
    CHECK();
    auto *kernel = static_cast<const StandInKernel *>(dlsym(module, "stand_in_kernels"));
    if (!kernel) return INVALID_IMAGE;
    for (; kernel->name; kernel++) {
        if (strcmp(kernel->name, name)) continue;
        *function = const_cast<StandInKernel *>(kernel);
        return SUCCESS;
    }
    return NOT_FOUND;
}

Result cuFuncGetAttribute(int *value, int attribute, void *) {
    CHECK();
    // Threads of a block; nothing else is limited.
    *value = attribute == 0 ? 1024 : 0;
    return SUCCESS;
}
Result cuFuncSetAttribute(void *, int, int) { return check(); }
Result cuFuncSetCacheConfig(void *, int) { return check(); }

Result cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                      unsigned block_y, unsigned block_z, unsigned shared_bytes, void *handle, void **parameters,
                      void **extra) {
    STREAM(handle);
    if (!function) return INVALID_HANDLE;
    uint64_t threads = uint64_t(block_x) * block_y * block_z;
    if (extra || !grid_x || !grid_y || !grid_z || !threads) return INVALID_VALUE;
    if (threads > 1024 || shared_bytes > 99u << 10) return LAUNCH_OUT_OF_RESOURCES;

    auto launch = std::make_shared<Launch>();
    launch->kernel = static_cast<const StandInKernel *>(function);
    const StandInKernel &kernel = *launch->kernel;
    const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
    memcpy(launch->grid, grid, sizeof grid);
    memcpy(launch->block, block, sizeof block);
    launch->shared_bytes = shared_bytes;
    // The caller's values are his again when this returns.
    size_t words = 0;
    for (unsigned i = 0; i < kernel.count; i++) words += (kernel.parameters[i].bytes + 7) / 8;
    launch->values.resize(words);
    uint64_t *value = launch->values.data();
    for (unsigned i = 0; i < kernel.count; i++) {
        memcpy(value, parameters[i], kernel.parameters[i].bytes);
        launch->parameters.push_back(value);
        value += (kernel.parameters[i].bytes + 7) / 8;
    }
    auto touches = touches_of(kernel, launch->parameters);
    count("launch", kernel.name);
    stream->submit(kernel.name, touches, [launch, stream = stream.get()] {
        if (stream->dice().next() % 32 == 0) stream->dice().dawdle();
        run_kernel(*launch);
    });
    return SUCCESS;
}
}
