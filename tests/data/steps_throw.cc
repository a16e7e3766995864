// SPDX-License-Identifier: MIT
// Exceptions in flight, for stepping: thrown through frames that clean up, caught, thrown again.
#include <stdexcept>

static volatile int sink;

struct cleaner {
    int n;
    explicit cleaner(int x) : n(x) { sink = sink + 1; }
    ~cleaner();
};

__attribute__((noinline)) cleaner::~cleaner()
{
    sink = sink + n;
}

__attribute__((noinline)) static int thrower(int x)
{
    if (x > 0)
        throw std::runtime_error("no");
    return x;
}

__attribute__((noinline)) static int through(int x)
{
    cleaner one(x), two(x + 1);

    return x > 3 ? through(x - 1) : thrower(x);
}

__attribute__((noinline)) static int again(int x)
{
    try {
        return through(x);
    } catch (const std::exception &) {
        sink = sink + 1;
        throw;
    }
}

int main()
{
    try {
        return again(5);
    } catch (...) {
        cleaner last(3);
        return sink > 0 ? 0 : 1;
    }
}
