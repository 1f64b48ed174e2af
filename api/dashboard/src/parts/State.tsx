// A state as a shape, a colour and a word.
import type { ReactElement } from "react";
import { Shape } from "../app/icons";
import { said } from "../words";

export const State = ({ area, word, strong }: { area: string; word: string | undefined; strong?: boolean }): ReactElement => (
  <span className={`state${strong ? " strong" : ""}`}>
    <Shape of={word ?? "unknown"} />
    {said(area, word ?? "unknown")}
  </span>
);
