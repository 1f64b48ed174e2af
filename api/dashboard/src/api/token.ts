// The API key of this tab. It is kept in the tab's session storage and never put into an address.
const NAME = "gemba.token";
let memory: string | null = null;

export const token = (): string | null => {
  try {
    return sessionStorage.getItem(NAME) ?? memory;
  } catch {
    return memory;
  }
};

export const setToken = (value: string | null): void => {
  memory = value;
  try {
    if (value === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, value);
  } catch {
    // Storage may be forbidden; the key then lives as long as the page.
  }
};
