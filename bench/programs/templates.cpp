// A file of templates: what a compiler allocates for.
#include <algorithm>
#include <functional>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N> struct Chain {
    std::map<std::string, std::vector<std::tuple<int, double, std::string>>> held;
    std::variant<int, std::string, std::vector<int>, std::map<int, Chain<N - 1> *>> kind;
    void put(std::string const &key, int value) {
        held[key].emplace_back(value, value * 0.5, key + std::to_string(N));
        std::sort(held[key].begin(), held[key].end(), [](auto const &a, auto const &b) {
            return std::get<2>(a) < std::get<2>(b);
        });
    }
    template <class F> auto each(F f) {
        std::unordered_map<std::string, std::set<int>> all;
        for (auto const &[key, values] : held)
            for (auto const &value : values)
                all[key].insert(f(std::get<0>(value)));
        return std::visit([&](auto const &k) { return all.size() + sizeof(k); }, kind);
    }
};
template <> struct Chain<0> {};

template <int... N> int run(std::integer_sequence<int, N...>) {
    int sum = 0;
    (([&] {
         Chain<N + 1> chain;
         std::function<int(int)> f = [&](int x) { return x + N + sum; };
         chain.put("key", N);
         sum += static_cast<int>(chain.each(f));
     }()),
     ...);
    return sum;
}

int main() {
    std::printf("%d\n", run(std::make_integer_sequence<int, 2>()));
}
