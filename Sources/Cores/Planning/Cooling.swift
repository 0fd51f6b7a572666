/// Arithmetic of annealing, without libm.
package enum Cooling {
    /// e^x for x ≤ 0, to about a thousandth: (1 + x/1024)^1024. No libm in a core.
    package static func exponential(_ x: Double) -> Double {
        if x < -30 { return 0 }
        var y = 1 + x / 1024
        for _ in 0..<10 { y *= y }
        return y
    }
    /// From here on, down to −∞ (the sign turned), ``exponential(_:)`` is not above y.
    package static func reach(_ y: Double) -> Double {
        var (low, high) = (0.0, 31.0)
        for _ in 0..<20 {
            let middle = (low + high) / 2
            if exponential(-middle) > y { low = middle } else { high = middle }
        }
        return high
    }
    /// The n-th root of x in (0, 1], by bisection.
    package static func root(_ x: Double, _ n: Int) -> Double {
        var (low, high) = (0.0, 1.0)
        for _ in 0..<60 {
            let middle = (low + high) / 2
            var power = 1.0
            var (base, left) = (middle, max(1, n))
            while left > 0 {
                if left % 2 == 1 { power *= base }
                base *= base
                left /= 2
            }
            if power < x { low = middle } else { high = middle }
        }
        return high
    }
}
