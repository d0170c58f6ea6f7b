// C++ at a limit of 48 MiB that refuses: bad_alloc where the language says so, new_handler, nothrow, alignment, sized
// delete, containers, exceptions that another thread catches. "cpp_operator_new free" knows of no limit and stays below it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <future>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#define CHECK(what) ((what) ? (void)0 : (std::printf("%d: not %s\n", __LINE__, #what), std::fflush(stdout), std::abort()))
static constexpr size_t MIB = 1 << 20;
static bool limited = true;

template <class F> static bool throws(F f) {
    try {
        f();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

// An object that a compiler cannot leave out together with its end.
void *volatile sink;
template <class T> static T *seen(T *p) {
    sink = p;
    return p;
}

static int calls;
static char *reserve;

static void plain_new() {
    if (limited) {
        CHECK(throws([] { delete[] seen(new char[100 * MIB]); }));
        CHECK(throws([] { ::operator delete(seen(::operator new(100 * MIB))); }));
    }
    volatile size_t most = SIZE_MAX / 2;
    CHECK(throws([&] { delete[] seen(new char[most]); }));
    CHECK(throws([&] { delete[] seen(new long[most]); }));
    char *none = new char[0], *other = new char[0];
    CHECK(none && other && none != other);
    delete[] none;
    delete[] other;
}

static void handler() {
    struct Gives {
        static void memory() {
            calls++;
            delete[] reserve;
            reserve = nullptr;
            std::set_new_handler(nullptr);
        }
        static void up() {
            calls++;
            throw std::bad_alloc();
        }
    };
    if (!limited) return;
    reserve = new char[30 * MIB];
    std::set_new_handler(Gives::memory);
    std::vector<std::unique_ptr<char[]>> kept;
    kept.reserve(100);
    while (calls == 0) kept.emplace_back(new char[MIB]);
    CHECK(!reserve && kept.size() > 10 && kept.size() < 20);
    // What asked for memory when there was none has it; there is more.
    for (int i = 0; i < 25; i++) kept.emplace_back(new char[MIB]);
    CHECK(throws([&] { for (;;) kept.emplace_back(new char[MIB]); }));
    CHECK(calls == 1);
    std::set_new_handler(Gives::up);
    CHECK(throws([&] { for (;;) kept.emplace_back(new char[MIB]); }) && calls == 2);
    CHECK(!seen(new (std::nothrow) char[100 * MIB]) && calls == 3);
    std::set_new_handler(nullptr);
}

static void nothrow() {
    volatile size_t most = SIZE_MAX / 2;
    CHECK(!seen(new (std::nothrow) char[most]));
    if (limited) CHECK(!seen(new (std::nothrow) char[100 * MIB]));
    char *p = new (std::nothrow) char[MIB];
    CHECK(p);
    delete[] p;
}

struct alignas(64) Line { char bytes[64]; };
struct alignas(4096) Page { char bytes[3 * 4096]; };

static void aligned() {
    std::vector<std::unique_ptr<Line>> lines;
    for (int i = 0; i < 1000; i++) {
        lines.emplace_back(new Line);
        CHECK(reinterpret_cast<uintptr_t>(lines.back().get()) % 64 == 0);
    }
    std::vector<Page> pages(10);
    for (auto &page : pages) CHECK(reinterpret_cast<uintptr_t>(&page) % 4096 == 0);
    for (size_t align = 16; align <= 2 * MIB; align *= 2) {
        auto as = std::align_val_t(align);
        void *p = seen(::operator new(100, as));
        CHECK(reinterpret_cast<uintptr_t>(p) % align == 0);
        std::memset(p, 1, 100);
        ::operator delete(p, size_t(100), as);
        if (limited) CHECK(!seen(::operator new(100 * MIB, as, std::nothrow)));
    }
    if (limited) CHECK(throws([] { ::operator delete(seen(::operator new(100 * MIB, std::align_val_t(64))), std::align_val_t(64)); }));
}

static void sized() {
    for (size_t n = 1; n < 200'000; n += n / 7 + 1) {
        ::operator delete(seen(::operator new(n)), n);
        ::operator delete[](seen(::operator new[](n)), n);
    }
}

static void containers() {
    if (limited) {
        std::vector<uint64_t> list;
        CHECK(throws([&] { for (;;) list.push_back(list.size()); }));
        for (size_t i = 0; i < list.size(); i++) CHECK(list[i] == i);
        CHECK(list.size() >= MIB);
        std::vector<uint64_t>().swap(list);
        // Full of small things, then not even one more.
        std::map<int, std::string> tree;
        CHECK(throws([&] { for (int i = 0;; i++) tree[i] = std::string(100, 'x'); }));
        CHECK(tree.size() > 100'000);
        size_t all = 0;
        for (auto &[key, text] : tree) all += text.size() ? text.size() : 100;
        CHECK(all == tree.size() * 100);
        // The C++ library has memory put by for an exception when there is none for it.
        bool caught = false;
        try {
            throw 42;
        } catch (int n) {
            caught = n == 42;
        }
        CHECK(caught);
    }
    std::unordered_map<std::string, std::deque<int>> words;
    for (int i = 0; i < 50'000; i++) words["key " + std::to_string(i % 5000)].push_back(i);
    for (auto &[key, list] : words) CHECK(list.size() == 10);
}

// Each takes what it can get; the exception ends in another thread, and so does the memory of it.
static void threads() {
    std::vector<std::exception_ptr> errors(4);
    std::vector<std::vector<std::unique_ptr<char[]>>> kept(4);
    std::vector<std::thread> all;
    for (int t = 0; t < 4; t++)
        all.emplace_back([&, t] {
            try {
                for (int i = 0; limited || i < 50; i++) kept[t].emplace_back(new char[100'000]);
                throw std::string(1000, 'a' + t);
            } catch (...) {
                errors[t] = std::current_exception();
            }
        });
    for (auto &thread : all) thread.join();
    kept.clear();
    for (auto &error : errors) {
        bool caught = false;
        try {
            std::rethrow_exception(error);
        } catch (const std::bad_alloc &) {
            caught = limited;
        } catch (const std::string &text) {
            caught = !limited && text.size() == 1000;
        }
        CHECK(caught);
    }
    auto later = std::async(std::launch::async, []() -> std::vector<int> { throw std::runtime_error("from a thread"); });
    bool caught = false;
    try {
        later.get();
    } catch (const std::runtime_error &why) {
        caught = !std::strcmp(why.what(), "from a thread");
    }
    CHECK(caught);
}

int main(int argc, char **) {
    limited = argc == 1;
    plain_new();
    handler();
    nothrow();
    aligned();
    sized();
    containers();
    threads();
    std::puts("ok");
    return 0;
}
