// Put behind every kernel file: `KERNEL(name)` lines, between braces, make its table.
#pragma once

template <auto Kernel>
struct Entry;
template <typename... P, void (*Kernel)(P...)>
struct Entry<Kernel> {
    static constexpr StandInParameter parameters[] = {
        {sizeof(P), std::is_pointer_v<P>, std::is_pointer_v<P> && !std::is_const_v<std::remove_pointer_t<P>>}..., {}};

    template <size_t... I>
    static void spread(void *const *values, std::index_sequence<I...>) {
        Kernel(*static_cast<std::remove_const_t<P> *>(values[I])...);
    }
    static void call(void *const *values) { spread(values, std::index_sequence_for<P...>()); }
};
#define KERNEL(name) {#name, Entry<name>::call, sizeof(Entry<name>::parameters) / sizeof(StandInParameter) - 1, Entry<name>::parameters},
