// Motion of a wheel or pedal towards a target: a critically damped spring, which starts and ends gently.

/** Position and velocity after `seconds`. frequency: in rad/s; 95 % of the way takes 4.7 / frequency seconds. */
export function approach({ position, velocity }, target, frequency, seconds) {
  const offset = position - target;
  const slope = velocity + frequency * offset;
  const decay = Math.exp(-frequency * seconds);
  return {
    position: target + (offset + slope * seconds) * decay,
    velocity: (velocity - frequency * slope * seconds) * decay,
  };
}

export const STILL = Object.freeze({ position: 0, velocity: 0 });
