// Templates for a compiler to chew on: recursion, containers of containers, a parser of expressions made of types.
#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

template <int N> struct Fibonacci { static constexpr long value = Fibonacci<N - 1>::value + Fibonacci<N - 2>::value; };
template <> struct Fibonacci<0> { static constexpr long value = 0; };
template <> struct Fibonacci<1> { static constexpr long value = 1; };

template <size_t... I> constexpr auto squares(std::index_sequence<I...>) { return std::array<long, sizeof...(I)>{(long)(I * I)...}; }

template <int Depth> struct Nest {
    std::map<int, std::vector<Nest<Depth - 1>>> inner;
    int sum() const {
        int all = Depth;
        for (auto &[key, list] : inner)
            for (auto &one : list) all += key + one.sum();
        return all;
    }
    static Nest make() {
        Nest made;
        for (int i = 0; i < 2; i++) made.inner[i].assign(2, Nest<Depth - 1>::make());
        return made;
    }
};
template <> struct Nest<0> {
    int sum() const { return 1; }
    static Nest make() { return {}; }
};

struct Number;
struct Sum;
struct Product;
using Expression = std::variant<long, std::unique_ptr<Sum>, std::unique_ptr<Product>>;
struct Sum { Expression left, right; };
struct Product { Expression left, right; };

long evaluate(const Expression &e) {
    return std::visit([](auto &x) -> long {
        using T = std::decay_t<decltype(x)>;
        if constexpr (std::is_same_v<T, long>) return x;
        else if constexpr (std::is_same_v<T, std::unique_ptr<Sum>>) return evaluate(x->left) + evaluate(x->right);
        else return evaluate(x->left) * evaluate(x->right);
    }, e);
}

Expression build(int depth) {
    if (depth == 0) return 2L;
    if (depth % 2) return std::make_unique<Sum>(Sum{build(depth - 1), build(depth - 1)});
    return std::make_unique<Product>(Product{build(depth - 1), 3L});
}

template <class... T> std::string join(const std::tuple<T...> &all) {
    return std::apply([](auto &...x) { return (std::to_string(x) + ...); }, all);
}

int main() {
    auto list = squares(std::make_index_sequence<100>());
    std::printf("%ld %ld\n", Fibonacci<80>::value, std::accumulate(list.begin(), list.end(), 0L));
    std::printf("%d\n", Nest<5>::make().sum());
    std::printf("%ld\n", evaluate(build(9)));
    std::unordered_map<std::string, std::set<std::string>> words;
    std::istringstream text("one fish two fish red fish blue fish");
    for (std::string word; text >> word;) words[word.substr(0, 1)].insert(word);
    std::vector<std::function<size_t()>> later;
    for (auto &entry : words) later.push_back([&entry] { return entry.second.size(); });
    size_t all = 0;
    for (auto &f : later) all += f();
    std::printf("%zu %s\n", all, join(std::make_tuple(1, 2.5, 3L)).c_str());
    return 0;
}
