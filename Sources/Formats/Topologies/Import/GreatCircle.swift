/// Distances on the Earth without libm, so that they are the same on every machine.
package enum GreatCircle {
    /// Of the sphere with the Earth's mean radius, 6371 km.
    ///
    /// - Parameters: degrees; latitudes within ±90, longitudes within ±180.
    static func kilometres(from a: (latitude: Double, longitude: Double), to b: (latitude: Double, longitude: Double))
        -> Double
    {
        let (u, v) = (point(a), point(b))
        let (x, y, z) = (u.0 - v.0, u.1 - v.1, u.2 - v.2)
        let half = min(1, (x * x + y * y + z * z).squareRoot() / 2)
        // asin h = 2 atan (h ÷ (1 + √(1 − h²))), and the angle is twice that.
        return 6371 * 4 * arctangent(half / (1 + (1 - half * half).squareRoot()))
    }

    private static func point(_ place: (latitude: Double, longitude: Double)) -> (Double, Double, Double) {
        let (latitude, longitude) = (place.latitude * .pi / 180, place.longitude * .pi / 180)
        let ring = sine(latitude + .pi / 2)
        return (ring * sine(longitude + .pi / 2), ring * sine(longitude), sine(latitude))
    }
    /// Taylor's series, |x| ≤ 3π/2.
    package static func sine(_ x: Double) -> Double {
        var (term, sum) = (x, x)
        for k in 1...20 {
            term *= -x * x / Double((2 * k) * (2 * k + 1))
            sum += term
        }
        return sum
    }
    /// 0 ≤ x ≤ 1: halved three times, then Gregory's series.
    private static func arctangent(_ x: Double) -> Double {
        var x = x
        for _ in 0..<3 { x /= 1 + (1 + x * x).squareRoot() }
        var (power, sum) = (x, x)
        for k in 1...12 {
            power *= -x * x
            sum += power / Double(2 * k + 1)
        }
        return 8 * sum
    }
}
